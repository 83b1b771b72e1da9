"""The merge of onebranch's own networks: the plan, its application, and the proof."""
