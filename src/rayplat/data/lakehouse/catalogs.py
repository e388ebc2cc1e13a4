"""Catalogs: which one the settings name, opened.

Knows the SQL, REST and Glue catalogs of pyiceberg and what each is told; it does not know tables.
"""

from collections.abc import Callable, Mapping

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import RESTError

from rayplat.core.errors import UnavailableError, UserError
from rayplat.core.secrets import mask
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.database import open_catalog as open_sql
from rayplat.data.lakehouse.storage import io_properties

NAME = "rayplat"
"""The catalog's name: several catalogs may share one database."""


def open_catalog(settings: Settings) -> Catalog:
    """Open the catalog that `settings.catalog` names; the caller closes it.

    Raises:
        UserError: the settings lack something, or an extra is not installed.
        UnavailableError: the catalog does not answer.
    """
    if any(sign in settings.warehouse for sign in "#?"):
        # pyiceberg takes what follows for the fragment or query of a URL: all tables would share one file.
        raise UserError(
            f"the warehouse {settings.warehouse} would be cut at its # or ?",
            "set `warehouse` (or `home`) to a folder without these signs",
        )
    return _OPEN[settings.catalog.kind](settings)


def catalog_properties(settings: Settings) -> dict[str, str]:
    """What the catalog of pyiceberg is told; holds secrets. `catalog.options` win."""
    catalog, s3 = settings.catalog, settings.s3
    found = {"warehouse": settings.warehouse, **io_properties(settings)}
    if catalog.kind == "rest":
        # The server says where tables are; a warehouse is one that it knows by name.
        found = {"uri": catalog.uri, **io_properties(settings)}
    if catalog.kind == "glue":
        given = {
            "glue.endpoint": catalog.uri,
            "glue.region": s3.region,
            "glue.access-key-id": s3.access_key,
            "glue.secret-access-key": s3.secret_key,
        }
        found |= {name: value for name, value in given.items() if value}
    return {**found, **catalog.options}


def _open_sql(settings: Settings) -> Catalog:
    found = catalog_properties(settings)
    return open_sql(settings.database, found.pop("warehouse"), found)


def _open_rest(settings: Settings) -> Catalog:
    from pyiceberg.catalog.rest import RestCatalog
    from requests import RequestException

    if not settings.catalog.uri:
        raise UserError("catalog.kind is rest and catalog.uri is empty", "set catalog.uri to its address")
    try:
        return RestCatalog(NAME, **catalog_properties(settings))
    except (RequestException, RESTError) as error:
        raise UnavailableError(
            f"the REST catalog {mask(settings.catalog.uri)} does not answer: {mask(str(error))}",
            "start it, or correct the settings catalog.uri and catalog.options",
        ) from error


def _open_glue(settings: Settings) -> Catalog:
    try:
        from pyiceberg.catalog.glue import GlueCatalog
    except ImportError as error:
        raise UserError(
            f"catalog.kind is glue, and {error.name or 'boto3'} is not installed", "install rayplat[aws]"
        ) from error
    if settings.warehouse.startswith("file:"):
        raise UserError(
            f"catalog.kind is glue and the warehouse is {settings.warehouse}", "set warehouse to s3://…"
        )
    return GlueCatalog(NAME, **catalog_properties(settings))


_OPEN: Mapping[str, Callable[[Settings], Catalog]] = {
    "sql": _open_sql,
    "rest": _open_rest,
    "glue": _open_glue,
}
