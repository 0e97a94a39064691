"""Pictures, from plain values: nothing here knows a cluster. Needs the extra ``viz``."""
