package main

import (
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for content, want := range map[string][]string{
		"":                      nil,
		"A=1":                   {"A=1"},
		"A=1\x00":               {"A=1"},
		"A=\x00B=x=y\nz\x00":    {"A=", "B=x=y\nz"},
		"a.b-c=\xff\xfe\x00":    {"a.b-c=\xff\xfe"},
		"A=1\x00A=2\x00":        {"A=1", "A=2"},
		"NAME= spaced \x00B=\t": {"NAME= spaced ", "B=\t"},
	} {
		got, err := parse([]byte(content))
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("parse(%q) = %q, %v; want %q", content, got, err, want)
		}
	}
}

func TestParseNamesTheEntryAndNoValue(t *testing.T) {
	for content, entry := range map[string]string{
		"hunter2":                   "entry 1 ",
		"A=1\x00hunter2\x00":        "entry 2 ",
		"A=1\x00=hunter2\x00B=2":    "entry 2 ",
		"A=1\x00\x00B=hunter2\x00":  "entry 2 ",
		"A=hunter2\x00\x00":         "entry 2 ",
		"\x00":                      "entry 1 ",
		"A=1\x00B=2\x00hunter2\x00": "entry 3 ",
	} {
		_, err := parse([]byte(content))
		if err == nil {
			t.Errorf("parse(%q) has no error", content)
			continue
		}
		if message := err.Error(); !strings.HasPrefix(message, entry) || strings.Contains(message, "hunter2") {
			t.Errorf("parse(%q): %s", content, message)
		}
	}
}

func TestMerge(t *testing.T) {
	for _, test := range []struct{ environment, variables, want []string }{
		{nil, nil, []string{}},
		{[]string{"A=1", "B=2"}, nil, []string{"A=1", "B=2"}},
		{[]string{"A=1", "B=2"}, []string{"A=secret", "C=3"}, []string{"A=secret", "B=2", "C=3"}},
		{nil, []string{"A=1", "A=2"}, []string{"A=2"}},
		{[]string{"A=1", "A=2", "AB=3"}, []string{"A="}, []string{"A=", "AB=3"}},
	} {
		if got := merge(test.environment, test.variables); !slices.Equal(got, test.want) {
			t.Errorf("merge(%q, %q) = %q; want %q", test.environment, test.variables, got, test.want)
		}
	}
}

func TestSearchPath(t *testing.T) {
	for want, environment := range map[string][]string{
		"/a:/b":     {"A=1", "PATH=/a:/b"},
		"":          {"PATH="},
		defaultPath: {"XPATH=/a", "PATHS=/b"},
	} {
		if got := searchPath(environment); got != want {
			t.Errorf("searchPath(%q) = %q; want %q", environment, got, want)
		}
	}
}
