// A Go service in small: connects by DATABASE_URL with pgx, changes a row, and says what it then sees, and where. Told
// a URL, it fetches that by net/http instead, and says what it gets.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
)

func main() {
	run := ask
	if len(os.Args) > 1 {
		run = fetch
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func fetch() error {
	client := http.Client{Timeout: time.Minute}
	answer, err := client.Get(os.Args[1])
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, err = io.Copy(os.Stdout, answer.Body)
	return err
}

func ask() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "UPDATE products SET stock_quantity = stock_quantity - $1 WHERE product_id = $2", 7, "1")
	if err != nil {
		return err
	}
	var stock int64
	var identity string
	query := "SELECT stock_quantity, current_setting('cluster_name') FROM products WHERE product_id = $1"
	if err := conn.QueryRow(ctx, query, "1").Scan(&stock, &identity); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"stock": stock, "cluster_name": identity})
}
