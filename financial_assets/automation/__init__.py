"""What makes assets run: jobs, schedules and sensors."""
