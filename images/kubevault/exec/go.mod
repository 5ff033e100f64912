module kubevault-exec

go 1.26.0
