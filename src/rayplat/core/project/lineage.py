"""Of which columns of which tables each feature is made, and which features hold personal data.

Knows what declarations say; it does not know which rows a value was computed from (its provenance).
"""

from rayplat.core.project.view import DerivedView, FeatureView, View, reads

Origin = tuple[str, str]
"""A table and one of its columns."""


def lineage(view: View) -> dict[str, frozenset[Origin]]:
    """By full name of a feature, the source columns that it is made of; through other views, too."""
    above: dict[str, frozenset[Origin]] = {}
    if isinstance(view, DerivedView):
        for one in view.views:
            above |= lineage(one)
    found = {}
    for name, definition in zip(view.names, view.features.values(), strict=True):
        origins: set[Origin] = set()
        for column in reads(definition):
            if column in above:
                origins |= above[column]
            elif view.source is not None:
                origins.add((view.source.name, column))
        found[name] = frozenset(origins)
    return found


def personal(view: View) -> tuple[str, ...]:
    """The features of a view, by full name, that are made of columns declared as personal data (`pii`)."""
    marked: set[Origin] = set()
    open_: list[View] = [view]
    while open_:
        one = open_.pop()
        if one.source is not None:
            marked |= {(one.source.name, name) for name, column in one.source.columns.items() if column.pii}
        if isinstance(one, DerivedView):
            open_.extend(one.views)
    return tuple(name for name, origins in lineage(view).items() if origins & marked)


def personal_keys(view: View) -> tuple[str, ...]:
    """The entity columns of a view that are declared as personal data."""
    if not isinstance(view, FeatureView):
        return ()
    return tuple(column for column in view.entity if view.source.columns[column].pii)
