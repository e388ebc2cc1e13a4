"""What is made from the cluster file: launcher files for AWS, GCP, KubeRay and this machine, and policies."""
