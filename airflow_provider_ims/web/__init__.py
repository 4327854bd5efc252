"""Pages in Airflow's UI: what a plan would delete, and what became of a deletion's targets (Airflow >= 3.1)."""
