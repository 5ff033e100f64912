// Kubevault-exec runs a command with the variables of the file .env beside its own executable:
//
//	kubevault-exec COMMAND [ARG ...]
//
// The file holds NAME=VALUE, each followed by a NUL byte, as /proc/PID/environ does. A variable of the file replaces one of
// the same name of the environment. The command replaces this process (execve(2)), so signals, exit status, process ID and
// memory are its own. What the caller made it ignore stays ignored for SIGHUP and SIGINT alone, since Go's runtime catches the
// other signals; no container runtime makes a container ignore one.
//
// Exit status, if the command does not run, as of env(1): 125 if the variables cannot be read, 126 if the command cannot be
// run, 127 if there is no such command. No message holds a value.
package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

const (
	statusFailed    = 125
	statusCannotRun = 126
	statusNotFound  = 127

	// As execvp(3), where PATH is not set.
	defaultPath = "/bin:/usr/bin"
)

func main() {
	status, message := run(os.Args[1:])
	os.Stderr.WriteString("kubevault-exec: " + message + "\n")
	os.Exit(status)
}

// run becomes the command; it returns only if that fails.
func run(command []string) (status int, message string) {
	if len(command) == 0 {
		return statusFailed, "no command: usage: kubevault-exec COMMAND [ARG ...]"
	}
	executable, err := os.Executable()
	if err != nil {
		return statusFailed, "where is my own executable? " + err.Error()
	}
	file := filepath.Join(filepath.Dir(executable), ".env")
	content, err := os.ReadFile(file)
	if err != nil {
		return statusFailed, err.Error()
	}
	variables, err := parse(content)
	if err != nil {
		return statusFailed, file + ": " + err.Error()
	}
	err = execute(command, merge(os.Environ(), variables))
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ENOTDIR) {
		return statusNotFound, command[0] + ": " + err.Error()
	}
	return statusCannotRun, command[0] + ": " + err.Error()
}

// parse returns the variables of a file's content, each as NAME=VALUE.
func parse(content []byte) ([]string, error) {
	var variables []string
	if len(content) == 0 {
		return variables, nil
	}
	for entry := range bytes.SplitSeq(bytes.TrimSuffix(content, []byte{0}), []byte{0}) {
		if bytes.IndexByte(entry, '=') < 1 {
			return nil, errors.New("entry " + strconv.Itoa(len(variables)+1) + " is not NAME=VALUE")
		}
		variables = append(variables, string(entry))
	}
	return variables, nil
}

// merge returns an environment in which each name occurs once, with the value of its last occurrence.
func merge(environment, variables []string) []string {
	merged := make([]string, 0, len(environment)+len(variables))
	place := make(map[string]int, cap(merged))
	for _, list := range [][]string{environment, variables} {
		for _, variable := range list {
			name, _, _ := strings.Cut(variable, "=")
			if index, found := place[name]; found {
				merged[index] = variable
				continue
			}
			place[name] = len(merged)
			merged = append(merged, variable)
		}
	}
	return merged
}

// execute becomes the command, found as execvp(3) finds it: on the PATH of its own environment. It returns only an error.
func execute(command, environment []string) error {
	if strings.Contains(command[0], "/") {
		return syscall.Exec(command[0], command, environment)
	}
	var result error = syscall.ENOENT
	for folder := range strings.SplitSeq(searchPath(environment), ":") {
		if folder == "" {
			folder = "."
		}
		err := syscall.Exec(folder+"/"+command[0], command, environment)
		switch err {
		case syscall.ENOENT, syscall.ENOTDIR:
		case syscall.EACCES:
			result = err
		default:
			return err
		}
	}
	return result
}

// searchPath returns the value of PATH.
func searchPath(environment []string) string {
	for _, variable := range environment {
		if value, found := strings.CutPrefix(variable, "PATH="); found {
			return value
		}
	}
	return defaultPath
}
