${sym}
