-- Does nothing. Since it says that it may write, a server that can't refuses it.
return 1
