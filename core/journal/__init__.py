"""How accepted data becomes durable: queue, transaction, and one module for each noun it stores."""
