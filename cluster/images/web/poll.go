package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

// poll asks the URL every so often, whether or not earlier questions are answered, each over a connection of its own, and
// prints when it asked, when it knew, and the answer:
//
//	1763732425123.456 1763732425124.012 200 web-1
//	1763732425128.460 1763732427128.511 error context deadline exceeded
//
// SIGTERM ends it once all are answered.
func poll(url string, every, patience time.Duration) {
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	ticks := time.NewTicker(every)
	var (
		asked sync.WaitGroup
		lines sync.Mutex
	)
	for {
		select {
		case <-stop:
			asked.Wait()
			return
		case <-ticks.C:
		}
		asked.Add(1)
		go func() {
			defer asked.Done()
			begun := time.Now()
			answer := ask(client, url)
			lines.Lock()
			defer lines.Unlock()
			fmt.Printf("%.3f %.3f %s\n", milliseconds(begun), milliseconds(time.Now()), answer)
		}()
	}
}

// ask is the answer in one line: its status and its text, or what went wrong.
func ask(client *http.Client, url string) string {
	response, err := client.Get(url)
	if err != nil {
		return "error " + line(err.Error())
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return "error " + line(err.Error())
	}
	return fmt.Sprintf("%d %s", response.StatusCode, line(string(text)))
}

func line(text string) string {
	return strings.Join(strings.Fields(text), " ")
}
