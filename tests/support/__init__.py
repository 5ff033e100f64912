"""What the tests share: servers of their own, Ansible's runs, the lab's Kubernetes, the chain."""
