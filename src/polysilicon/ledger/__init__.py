"""What every step cost."""
