"""The Templates tab: prompts with slots."""
