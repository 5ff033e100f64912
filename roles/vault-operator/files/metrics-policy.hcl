# Metrics, for Prometheus.
path "sys/metrics" {
  capabilities = ["read"]
}
