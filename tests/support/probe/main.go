// The probe is a static program for pods of the tests: it asks a server over TLS, or shows what a program gets.
//
//	probe get -ca FILE [-bearer FILE] URL       prints the status and the body
//	probe login -ca FILE -role ROLE FILE URL    logs in at Vault with the token in FILE; prints the status
//	probe env                                   prints each variable as NAME=SHA-256, since a log is no place for a value,
//	                                            then waits for a signal, whose number it ends with
package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("give a command: get, login or env"))
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	ca := flags.String("ca", "", "file with the authority of the server")
	bearer := flags.String("bearer", "", "file with a token for the header Authorization")
	role := flags.String("role", "", "role in Vault")
	_ = flags.Parse(os.Args[2:])
	switch os.Args[1] {
	case "get":
		request, err := http.NewRequest(http.MethodGet, flags.Arg(0), nil)
		check(err)
		if *bearer != "" {
			request.Header.Set("Authorization", "Bearer "+read(*bearer))
		}
		response, body := ask(*ca, request)
		fmt.Println(response.StatusCode)
		fmt.Println(body)
	case "login":
		data, err := json.Marshal(map[string]string{"role": *role, "jwt": read(flags.Arg(0))})
		check(err)
		request, err := http.NewRequest(http.MethodPost, flags.Arg(1), bytes.NewReader(data))
		check(err)
		// The body holds a token: it is not printed.
		response, _ := ask(*ca, request)
		fmt.Println(response.StatusCode)
	case "env":
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1)
		for _, variable := range os.Environ() {
			name, value, _ := strings.Cut(variable, "=")
			fmt.Printf("%s=%x\n", name, sha256.Sum256([]byte(value)))
		}
		os.Exit(int((<-signals).(syscall.Signal)))
	default:
		fail(fmt.Errorf("no command %s", os.Args[1]))
	}
}

func ask(ca string, request *http.Request) (*http.Response, string) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(read(ca))) {
		fail(fmt.Errorf("%s holds no certificate", ca))
	}
	client := http.Client{
		Timeout:   10 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}},
	}
	response, err := client.Do(request)
	check(err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	check(err)
	return response, string(body)
}

func read(path string) string {
	content, err := os.ReadFile(path)
	check(err)
	return strings.TrimSpace(string(content))
}

func check(err error) {
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
