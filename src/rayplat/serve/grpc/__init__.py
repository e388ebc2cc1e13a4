"""The Open Inference Protocol over gRPC, behind the gRPC door of Ray Serve."""
