"""The commands ``fastconv predict`` and ``fastconv explain``, and the arguments that commands share."""
