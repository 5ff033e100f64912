"""Read secrets that Vault has sealed and Kubernetes keeps."""
