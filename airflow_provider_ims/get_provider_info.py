"""What Airflow reads about this provider: its connection form, its modules.

Airflow reads it for each of its commands: nothing is imported here but the version and the list of regions.
"""

from __future__ import annotations

from typing import Any

from airflow_provider_ims import __version__
from airflow_provider_ims.api.endpoints import NETWORKS, REGIONS

UI_FIELD_BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": ["schema"],
    "relabeling": {"login": "AccessKey ID", "password": "AccessKey Secret", "host": "Endpoint"},
    "placeholders": {
        "login": "empty: the credential type below says where keys come from",
        "host": "empty: the region's own; else a host, host:port or URL",
        # https://github.com/apache/airflow/pull/73298
        "port": "that of Endpoint, else 443; Airflow 3.3.1 and 3.3.2 need one to test",
    },
}


def _text(label: str, description: str, **schema: Any) -> dict[str, Any]:
    # Airflow's form takes a field that can't be null for a required one.
    return {
        "label": label,
        "description": description,
        "schema": {"type": ["string", "null"], **schema},
    }


def _number(label: str, description: str, **schema: Any) -> dict[str, Any]:
    return {
        "label": label,
        "description": description,
        "schema": {"type": ["number", "null"], **schema},
    }


CONNECTION_FIELDS: dict[str, dict[str, Any]] = {
    "region": _text(
        "Region",
        "Where the media are. The regions that IMS documents are offered, another id can be typed. Needed unless "
        "Endpoint is set.",
        examples=list(REGIONS),
    ),
    "network": _text(
        "Network",
        "Which of the region's endpoints: public (the default), or vpc from inside a VPC in that region.",
        enum=list(NETWORKS),
    ),
    "credential_type": _text(
        "Credential type",
        "Where keys come from. By default access_key when AccessKey ID is set, else default: environment, profiles, "
        "metadata of the machine.",
        enum=[
            "access_key",
            "sts",
            "ram_role_arn",
            "oidc_role_arn",
            "ecs_ram_role",
            "credentials_uri",
            "default",
        ],
        values_display={
            "access_key": "access_key: AccessKey ID and Secret",
            "sts": "sts: both and a Security token, never renewed",
            "ram_role_arn": "ram_role_arn: both and a Role ARN to assume",
            "oidc_role_arn": "oidc_role_arn: Role ARN, OIDC provider ARN and token file",
            "ecs_ram_role": "ecs_ram_role: the role of the ECS instance",
            "credentials_uri": "credentials_uri: a URL that hands out credentials",
            "default": "default: environment, profile files, ECS metadata",
        },
    ),
    "security_token": _text(
        "Security token", "For sts, and for ram_role_arn with temporary keys.", format="password"
    ),
    "role_arn": _text(
        "Role ARN",
        "For ram_role_arn and oidc_role_arn: the role to assume, such as acs:ram::1234567890123456:role/media.",
    ),
    "role_session_name": _text(
        "Role session name",
        "For ram_role_arn and oidc_role_arn: the name in audit logs. Default: airflow-provider-ims.",
    ),
    "role_session_expiration": _number(
        "Role session seconds",
        "For ram_role_arn and oidc_role_arn: how long a token lives before it is renewed. Default: 3600.",
        minimum=900,
        maximum=43200,
    ),
    "external_id": _text("External ID", "For ram_role_arn, when the role's trust policy asks for one."),
    "policy": _text(
        "Session policy",
        "For ram_role_arn and oidc_role_arn: a RAM policy (JSON) that narrows what the role may do.",
        format="multiline",
    ),
    "oidc_provider_arn": _text(
        "OIDC provider ARN", "For oidc_role_arn. Default: ALIBABA_CLOUD_OIDC_PROVIDER_ARN of the environment."
    ),
    "oidc_token_file_path": _text(
        "OIDC token file",
        "For oidc_role_arn: its path. Default: ALIBABA_CLOUD_OIDC_TOKEN_FILE of the environment.",
    ),
    "role_name": _text("ECS role name", "For ecs_ram_role. Default: the role that the instance has."),
    "credentials_uri": _text(
        "Credentials URI", "For credentials_uri. Default: ALIBABA_CLOUD_CREDENTIALS_URI of the environment."
    ),
    "sts_endpoint": _text(
        "STS endpoint",
        "For ram_role_arn and oidc_role_arn, such as sts-vpc.cn-shanghai.aliyuncs.com. Default: sts.aliyuncs.com.",
    ),
    "connect_timeout": _number("Connect timeout", "Seconds to wait for a connection. Default: 5."),
    "read_timeout": _number("Read timeout", "Seconds to wait for an answer. Default: 30."),
    "retry_seconds": _number(
        "Retry seconds", "How long one request is tried again before its error is final. Default: 300."
    ),
    "max_requests_per_second": _number(
        "Requests per second", "A ceiling that a run never passes. Default: none, the pace is found."
    ),
    "verify": _text(
        "Verify TLS",
        "true (the default), the path of a CA bundle, or false, which lets anybody on the way read along.",
        examples=["true", "/etc/ssl/certs/ca-certificates.crt", "false"],
    ),
    "proxy": _text("Proxy", "URL of a proxy. Default: HTTPS_PROXY and NO_PROXY of the environment."),
    "oss_endpoint": _text(
        "OSS endpoint",
        "For oss:// paths. Default: the region's own, such as https://oss-cn-shanghai.aliyuncs.com, and the "
        "internal one where Network is vpc.",
    ),
}


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
        "triggers": [
            {"integration-name": "Alibaba Cloud IMS", "python-modules": ["airflow_provider_ims.triggers.ims"]}
        ],
        "connection-types": [
            {
                "hook-class-name": "airflow_provider_ims.hooks.ims.IMSHook",
                "hook-name": "Alibaba Cloud IMS",
                "connection-type": "alibaba_ims",
                "ui-field-behaviour": UI_FIELD_BEHAVIOUR,
                "conn-fields": CONNECTION_FIELDS,
            }
        ],
        "filesystems": ["airflow_provider_ims.files.oss"],
        "extra-links": [
            "airflow_provider_ims.links.ims.IMSPlanLink",
            "airflow_provider_ims.links.ims.IMSReportLink",
        ],
    }
