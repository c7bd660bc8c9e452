"""What may be removed and what must stay, and which model serves: retention, holds, pins, deployments."""
