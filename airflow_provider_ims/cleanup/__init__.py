"""What is deleted, and what became of it. Of Airflow it knows only ``ObjectStoragePath`` and the exceptions."""
