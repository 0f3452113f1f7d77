"""What flexmw's telemetry is good for: a dashboard, alerts, and the gateway with its metrics for Prometheus."""
