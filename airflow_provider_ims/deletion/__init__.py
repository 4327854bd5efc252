"""Targets in, outcomes out: batches, a run, its checkpoint. Of Airflow it knows storage paths and exceptions."""
