module tools.invalid/pause

go 1.26
