"""The ground floor: settings, errors, ids, events, plugins, telemetry and the project declarations.

Knows nothing of Ray, torch or any store.
"""
