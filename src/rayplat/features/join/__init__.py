"""The point-in-time join of many questions with many source rows, streamed from files in bounded memory."""
