"""What a dictionary says about personas through fine-tuning."""
