"""What make runs and no stage imports: a change of it reruns nothing but the report."""
