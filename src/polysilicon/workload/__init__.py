"""What has to be done: steps, tasks and workloads, and their files."""
