module kubevault.lab/probe

go 1.24
