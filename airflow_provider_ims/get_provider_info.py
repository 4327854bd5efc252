"""What Airflow reads about this provider: its connection form, its modules."""

from __future__ import annotations

from typing import Any

from airflow_provider_ims import __version__


def get_provider_info() -> dict[str, Any]:
    """Give the provider's description. Its ``package-name`` must be the distribution's name."""
    return {
        "package-name": "airflow-provider-ims",
        "name": "Alibaba Cloud IMS",
        "description": "Deletes media in Alibaba Cloud Intelligent Media Services and says what became of each.",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": "Alibaba Cloud IMS",
                "external-doc-url": "https://www.alibabacloud.com/help/en/ims/",
                "tags": ["service"],
            }
        ],
        "hooks": [
            {"integration-name": "Alibaba Cloud IMS", "python-modules": ["airflow_provider_ims.hooks.ims"]}
        ],
        "operators": [
            {
                "integration-name": "Alibaba Cloud IMS",
                "python-modules": ["airflow_provider_ims.operators.ims"],
            }
        ],
        "sensors": [
            {"integration-name": "Alibaba Cloud IMS", "python-modules": ["airflow_provider_ims.sensors.ims"]}
        ],
        "connection-types": [
            {
                "hook-class-name": "airflow_provider_ims.hooks.ims.IMSHook",
                "hook-name": "Alibaba Cloud IMS",
                "connection-type": "alibaba_ims",
                "ui-field-behaviour": {
                    "hidden-fields": ["schema", "port"],
                    "relabeling": {
                        "login": "AccessKey ID",
                        "password": "AccessKey Secret",
                        "host": "Endpoint",
                    },
                    "placeholders": {"host": "only if the region's own endpoint is not wanted"},
                },
                "conn-fields": {
                    "region": {
                        "label": "Region",
                        "schema": {"type": ["string", "null"]},
                        "description": "Region id such as cn-shanghai. Needed unless an endpoint is given.",
                    },
                },
            }
        ],
    }
