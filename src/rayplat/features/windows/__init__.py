"""Window aggregates as of each question: which rows are in each window, and how they are reduced."""
