"""`/metrics`: numbers for Prometheus. Route templates only, never an id; the way of a picture pays next to nothing."""

import prometheus_client

CONTENT_TYPE = prometheus_client.CONTENT_TYPE_LATEST
