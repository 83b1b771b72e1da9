"""The merge of anybody's linear operations, whatever format they come from: laws, cheapest choice, proof."""
