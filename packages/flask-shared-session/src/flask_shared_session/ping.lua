-- Does nothing. It is declared as a writing script, so a server that can't write refuses it.
return 1
