package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// watch prints the contents of each file, and prints them again after each change. The change happened at most 2 ms before the time
// in the line:
//
//	1763732425123.456 /podium/leader "true"
//	1763732425123.456 /podium/term absent
func watch(files []string) {
	if len(files) == 0 {
		usage()
	}
	last := make(map[string]string)
	for ticks := time.NewTicker(2 * time.Millisecond); ; <-ticks.C {
		for _, file := range files {
			if now := content(file); now != last[file] {
				last[file] = now
				fmt.Printf("%.3f %s %s\n", milliseconds(time.Now()), file, now)
			}
		}
	}
}

func content(file string) string {
	text, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "absent"
	case err != nil:
		return "error " + line(err.Error())
	}
	return fmt.Sprintf("%q", text)
}
