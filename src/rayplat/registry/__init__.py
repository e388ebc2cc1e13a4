"""The registry: verified model artifacts, their manifests, runs, versions and aliases."""
