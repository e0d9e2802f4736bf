import { mount } from 'svelte'
import App from './App.svelte'
import { settleSystemLanguage } from './app/system-language'
import './styles/index.css'

settleSystemLanguage()
const target = document.getElementById('app')
if (target) mount(App, { target })
