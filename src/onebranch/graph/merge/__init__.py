"""The merge of linear operations of any model and file format: laws, the cheapest choice, the proof."""
