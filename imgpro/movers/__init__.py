"""Where pictures can be taken over from: readers of folders and of other hosts' storage. They write nothing.

Must not know where the pictures go: no appliance, no command line.
"""
