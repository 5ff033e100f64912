# Snapshots of the storage, whose content is encrypted by Vault's unseal key. To restore one needs another capability.
path "sys/storage/raft/snapshot" {
  capabilities = ["read"]
}
