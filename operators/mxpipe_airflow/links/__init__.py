"""Links of a task's page. Each is published by its operator, once there is something to look at."""
