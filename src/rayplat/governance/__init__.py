"""Who answers for what: the audit log that cannot be edited unseen, and the passport of a prediction."""
