"""The IMS service: signing, one client, typed operations. Imports no Airflow; works in a plain script."""
