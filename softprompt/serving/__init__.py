"""The tuned model for other programs: a server of OpenAI's protocol that answers in batches, lm-evaluation-harness."""
