"""Apache Airflow provider for Alibaba Cloud Intelligent Media Services (IMS)."""

__version__ = "1.0.0"
