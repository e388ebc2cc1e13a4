"""How a registered version is named on the command line.

Knows `name@alias` and `name/version`; it does not know what is done with the version.
"""

from typing import TYPE_CHECKING

from rayplat.core.errors import NotFoundError, UserError

if TYPE_CHECKING:
    from rayplat.registry.model import RegisteredVersion
    from rayplat.registry.store import Registry


def resolve(registry: "Registry", name: str) -> "RegisteredVersion":
    """The version that `name@alias` or `name/version` means.

    Raises:
        NotFoundError: there is no such alias or version.
        UserError: the version is no number.
    """
    model, at, alias = name.partition("@")
    if at:
        found = registry.by_alias(model, alias)
        if found is None:
            raise NotFoundError(
                f"the model {model!r} has no alias {alias!r}", f"see `rayplat models show {model}`"
            )
        return found
    model, _, number = name.partition("/")
    if not number.isdigit():
        raise UserError(f"{number!r} is no version", f"write {model}/1 or {model}@champion")
    return registry.version(model, int(number))
