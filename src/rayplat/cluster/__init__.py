"""The Ray cluster: how one is started, joined, looked at and stopped. The only caller of `ray.init`."""
