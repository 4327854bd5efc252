"""Deletes the media whose ids come on stdin with the connection ``ims_here``, and prints the result.

A process of its own, since the credentials library reads the environment once, when it is imported.
"""

from __future__ import annotations

import json
import sys
import threading

from airflow_provider_ims.hooks.ims import IMSHook

result = IMSHook("ims_here").delete_media(sys.stdin.read().split())
print(
    json.dumps(
        {
            "result": result,
            "scheduler_threads": [t.name for t in threading.enumerate() if "APScheduler" in t.name],
            "library": "alibabacloud_credentials" in sys.modules,
        }
    )
)
