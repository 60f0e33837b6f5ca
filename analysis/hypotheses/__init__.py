"""Claims made about personas, judged from traces of several base models."""
