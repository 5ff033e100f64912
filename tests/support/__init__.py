"""Shared by the tests: processes and servers, runs of Ansible, the lab and its Kubernetes, clients and sealers."""
